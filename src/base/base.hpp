// Front header of the layer `base`: types, flags, atomics, locks, execution context, fail points, messages.
#pragma once
#include "base/atomic.hpp"
#include "base/bug.hpp"
#include "base/checker.hpp"
#include "base/context.hpp"
#include "base/fail.hpp"
#include "base/gfp.hpp"
#include "base/lock.hpp"
#include "base/printk.hpp"
#include "base/text.hpp"
#include "base/types.hpp"
