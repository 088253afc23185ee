/* Ticks a second. */
#ifndef KMEM_LINUX_PARAM_H
#define KMEM_LINUX_PARAM_H

#define HZ 250

#endif
