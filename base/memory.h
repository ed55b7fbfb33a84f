// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace manx {

// How malloc behaves in a process that lives for months: call first in main(). What a burst needed
// goes back to the kernel: few arenas, and limits that glibc does not raise by itself when it sees
// a large block.
void keep_memory_small();

// Gives back what only a start needed: free heap, and the pages of code and constants that are
// mapped, of the program and of its libraries. What is used again is mapped again from the page
// cache, 64 KiB at a time.
void return_unused_memory();

} // namespace manx
