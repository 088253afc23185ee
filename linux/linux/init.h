/* Sections of a kernel's image: a process has none that it gives back after its start. */
#ifndef KMEM_LINUX_INIT_H
#define KMEM_LINUX_INIT_H

#define __init
#define __exit
#define __initdata
#define __exitdata
#define __devinit
#define __devexit
#define __initconst

#endif
