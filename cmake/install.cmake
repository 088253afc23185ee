# What is installed and where: libraries, headers, the program, manual pages, and what finds them (CMake package, pkg-config).
# Everything names its place relative to itself, so the installed tree may be moved. Components are Debian's packages: package.cmake.

include(CMakePackageConfigHelpers)

set(KMEM_CMAKE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/kmem")
set(KMEM_PKGCONFIG_DIR "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

# ---- libraries: exported as kmem::NAME ------------------------------------------------------------------------------------------
# kmem_install_library(target exported-name component): the file a program needs at run time goes to the component, the rest to dev.
function(kmem_install_library target name component)
  if(NOT TARGET ${target})
    return()
  endif()
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  if(NOT TARGET kmem::${name})
    add_library(kmem::${name} ALIAS ${target})
  endif()
  install(TARGETS ${target} EXPORT kmem
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT ${component} NAMELINK_SKIP
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT dev
    INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "SHARED_LIBRARY")
    # The name without a version serves the linker; that of the malloc library is also what is preloaded, so it is not a developer's only.
    set(namelink_component dev)
    if(name STREQUAL "malloc")
      set(namelink_component ${component})
    endif()
    install(TARGETS ${target} LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT ${namelink_component} NAMELINK_ONLY)
  endif()
endfunction()

kmem_install_library(kmem_static kmem dev)
kmem_install_library(kmem_shared kmem_shared lib)
kmem_install_library(kmem_malloc malloc malloc)
kmem_install_library(kmem_malloc_static malloc_static dev)
if(TARGET kmem_program)
  install(TARGETS kmem_program RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT program)
endif()

# ---- headers --------------------------------------------------------------------------------------------------------------------
install(DIRECTORY include/kmem DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT dev FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
# Apart: these have the names of the system's own headers, and must be asked for.
set(KMEM_LINUX_INCLUDEDIR "${CMAKE_INSTALL_INCLUDEDIR}/kmem-linux")
install(DIRECTORY linux/ DESTINATION "${KMEM_LINUX_INCLUDEDIR}" COMPONENT dev FILES_MATCHING PATTERN "*.h")

# ---- CMake package --------------------------------------------------------------------------------------------------------------
install(EXPORT kmem NAMESPACE kmem:: FILE kmemTargets.cmake DESTINATION "${KMEM_CMAKE_DIR}" COMPONENT dev)
configure_package_config_file(cmake/kmemConfig.cmake.in "${PROJECT_BINARY_DIR}/kmemConfig.cmake" INSTALL_DESTINATION "${KMEM_CMAKE_DIR}"
  PATH_VARS KMEM_LINUX_INCLUDEDIR NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/kmemConfigVersion.cmake" COMPATIBILITY SameMajorVersion)
install(FILES "${PROJECT_BINARY_DIR}/kmemConfig.cmake" "${PROJECT_BINARY_DIR}/kmemConfigVersion.cmake" DESTINATION "${KMEM_CMAKE_DIR}"
  COMPONENT dev)

# ---- pkg-config -----------------------------------------------------------------------------------------------------------------
# Folders as seen from the .pc file, unless the configuration fixed them.
foreach(folder LIBDIR INCLUDEDIR)
  set(KMEM_PC_${folder} "${CMAKE_INSTALL_${folder}}")
  if(NOT IS_ABSOLUTE "${KMEM_PC_${folder}}")
    set(KMEM_PC_${folder} "\${prefix}/${KMEM_PC_${folder}}")
  endif()
endforeach()
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(KMEM_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
else()
  file(RELATIVE_PATH KMEM_PC_PREFIX "/${KMEM_PKGCONFIG_DIR}" "/")
  string(REGEX REPLACE "/$" "" KMEM_PC_PREFIX "\${pcfiledir}/${KMEM_PC_PREFIX}")
endif()
foreach(name kmem kmem-malloc)
  configure_file(cmake/${name}.pc.in "${PROJECT_BINARY_DIR}/${name}.pc" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/${name}.pc" DESTINATION "${KMEM_PKGCONFIG_DIR}" COMPONENT dev)
endforeach()

# ---- manual pages ---------------------------------------------------------------------------------------------------------------
# A page, and a page of one line for each other name that it explains. Debian wants them compressed.
function(kmem_install_manual component page)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/man/${page}")
  string(REGEX REPLACE ".*\\." "" section "${page}")
  configure_file("man/${page}" "${PROJECT_BINARY_DIR}/man/${page}" COPYONLY)
  set(pages "${PROJECT_BINARY_DIR}/man/${page}")
  file(STRINGS "man/${page}" names REGEX "^\\.Nm [^ ]+( ,)?$")
  list(TRANSFORM names REPLACE "^\\.Nm ([^ ]+).*" "\\1.${section}")
  list(REMOVE_DUPLICATES names)
  foreach(name IN LISTS names)
    if(NOT name STREQUAL page)
      file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/man/${name}" CONTENT ".so man${section}/${page}\n")
      list(APPEND pages "${PROJECT_BINARY_DIR}/man/${name}")
    endif()
  endforeach()
  if(KMEM_DEB)
    foreach(file IN LISTS pages)
      execute_process(COMMAND gzip -9nfk "${file}" COMMAND_ERROR_IS_FATAL ANY)
    endforeach()
    list(TRANSFORM pages APPEND ".gz")
  endif()
  install(FILES ${pages} DESTINATION "${CMAKE_INSTALL_MANDIR}/man${section}" COMPONENT ${component})
endfunction()
kmem_install_manual(program kmem.1)
kmem_install_manual(dev kmalloc.3)
kmem_install_manual(dev gfp.7)
kmem_install_manual(malloc kmem-malloc.7)

# ---- documents and examples -----------------------------------------------------------------------------------------------------
if(KMEM_DEB)
  set(KMEM_DOCDIR share/doc/libkmem-dev)
else()
  set(KMEM_DOCDIR "${CMAKE_INSTALL_DOCDIR}")
endif()
install(DIRECTORY docs/ DESTINATION "${KMEM_DOCDIR}" COMPONENT dev FILES_MATCHING PATTERN "*.md")
install(DIRECTORY examples DESTINATION "${KMEM_DOCDIR}" COMPONENT dev)
