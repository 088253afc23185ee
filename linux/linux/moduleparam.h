/* Parameters of modules. Nobody sets them: they keep the values that the source gives them. */
#ifndef KMEM_LINUX_MODULEPARAM_H
#define KMEM_LINUX_MODULEPARAM_H

#define module_param(name, type, permissions) _Static_assert(1, #name)
#define module_param_named(name, variable, type, permissions) _Static_assert(1, #name)
#define module_param_array(name, type, count, permissions) _Static_assert(1, #name)
#define MODULE_PARM_DESC(name, text) _Static_assert(1, text)
#define S_IRUGO 0444
#define S_IWUSR 0200

#endif
