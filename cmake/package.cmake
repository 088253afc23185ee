# Debian packages, for a tree that is configured with KMEM_DEB (scripts/deb): one for each component of install.cmake.
#   libkmem0, libkmem-malloc0   the shared libraries, each with its soname's number
#   libkmem-dev                 headers, static libraries, what CMake, pkg-config and the linker look for, manual pages of section 3
#   kmem                        the program

if(NOT CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  message(FATAL_ERROR "KMEM_DEB: Debian's packages are for /usr, not for ${CMAKE_INSTALL_PREFIX}: use scripts/deb")
endif()
set(KMEM_MAINTAINER "kmem authors <kmem@kmem.example>" CACHE STRING "Maintainer of the Debian packages")
set(revision 1)
set(version "${PROJECT_VERSION}-${revision}")

# kmem_package(component name section depends summary text).
function(kmem_package component name section depends summary text)
  string(TOUPPER "${component}" upper)
  set(prefix CPACK_DEBIAN_${upper})
  set(${prefix}_PACKAGE_NAME ${name} PARENT_SCOPE)
  set(${prefix}_PACKAGE_SECTION ${section} PARENT_SCOPE)
  set(${prefix}_PACKAGE_DEPENDS "${depends}" PARENT_SCOPE)
  set(${prefix}_DESCRIPTION "${summary}\n${text}" PARENT_SCOPE)
  if(section STREQUAL "libs")
    set(${prefix}_PACKAGE_CONTROL_EXTRA "${PROJECT_SOURCE_DIR}/packaging/triggers" PARENT_SCOPE)
  endif()
  install(FILES packaging/copyright "${PROJECT_BINARY_DIR}/changelog.Debian.gz" DESTINATION "share/doc/${name}" COMPONENT ${component})
  install(FILES packaging/lintian/${component} DESTINATION share/lintian/overrides RENAME ${name} COMPONENT ${component})
endfunction()

set(about "kmem is an allocator with the interface and the rules of the Linux
kernel's: kmalloc with its GFP flags, slab caches, pages by zone, vmalloc,
shrinkers. It keeps a budget, gives memory back before it fails, and says per
call what an allocation may do.
")
set(lib "libkmem${KMEM_ABI}")
set(malloc "libkmem-malloc${KMEM_ABI}")
kmem_package(lib ${lib} libs "" "Linux kernel's memory allocator for ordinary processes" "${about}
This package has the shared library.")
kmem_package(malloc ${malloc} libs "" "Linux kernel's memory allocator as a program's malloc" "${about}
This package has the library that takes the place of the C library's malloc,
for programs that are linked with it or that it is preloaded into.")
kmem_package(dev libkmem-dev libdevel "${lib} (= ${version}), ${malloc} (= ${version}), libc6-dev"
  "Linux kernel's memory allocator, files for development" "${about}
This package has the headers for C and C++ and those for kernel code, the
static libraries, and what CMake and pkg-config need.")
kmem_package(program kmem utils "${malloc} (= ${version})" "Linux kernel's memory allocator, the program" "${about}
This package has the program kmem, which runs programs under a budget, shows
and changes what the allocator does in them, and replays recordings of a
kernel's allocations.")

execute_process(COMMAND gzip -9nc "${PROJECT_SOURCE_DIR}/packaging/changelog" OUTPUT_FILE "${PROJECT_BINARY_DIR}/changelog.Debian.gz"
  COMMAND_ERROR_IS_FATAL ANY)
# `install --strip` leaves static libraries as they are.
install(CODE "if(CMAKE_INSTALL_DO_STRIP)
  file(GLOB archives \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/libkmem*.a\")
  execute_process(COMMAND \"${CMAKE_STRIP}\" --strip-debug --enable-deterministic-archives \${archives} COMMAND_ERROR_IS_FATAL ANY)
endif()" COMPONENT dev)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME kmem)
set(CPACK_PACKAGE_VENDOR "kmem authors")
set(CPACK_PACKAGE_CONTACT "${KMEM_MAINTAINER}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "")  # else the first line of every description
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_COMPONENTS_ALL lib malloc dev program)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE ${revision})
set(CPACK_DEBIAN_PACKAGE_SOURCE kmem)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_POST_BUILD_SCRIPTS "${PROJECT_SOURCE_DIR}/cmake/finish-deb.cmake")
include(CPack)
