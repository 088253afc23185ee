/*
 * The linux headers declare the library's C functions as kmem/kmem.h does: a compiler that sees both says so if not.
 *
 * HOSTED
 */
#include <kmem/kmem.h>

#include "kmem/linux_api.h"

int unused;
