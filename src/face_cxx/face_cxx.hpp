// What the files of the C++ face share: the process's machine.
#pragma once
#include <kmem/info.hpp>
#include <kmem/memory.hpp>

#include "debug/debug.hpp"

namespace kmem {

/// The process's machine, started if need be. Return: nullptr if it cannot serve; the reason was reported.
inline machine* serving() noexcept { return serving_machine(); }
/// The machine for a pointer that it handed out: it serves already.
inline machine& owner() noexcept { return process.object; }
/// False before the first allocation: then no pointer can be the machine's.

}  // namespace kmem
