// SPDX-License-Identifier: Apache-2.0
#include "base/memory.h"

#include <sys/mman.h>

#include <bit>
#include <cstdint>
#include <link.h>
#include <malloc.h>
#include <unistd.h>

namespace manx {

namespace {

// Only segments that nobody may write hold what the file holds: relocated ones (RELRO) belong to
// a segment that was writable.
int unmap_pages(dl_phdr_info* object, size_t /*size*/, void* /*unused*/) {
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const auto& segment = object->dlpi_phdr[i];
        if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) {
            continue;
        }
        const uintptr_t start = (object->dlpi_addr + segment.p_vaddr + page - 1) / page * page;
        const uintptr_t end =
            (object->dlpi_addr + segment.p_vaddr + segment.p_filesz) / page * page;
        if (start < end) {
            // The vDSO refuses, and has nothing to give.
            (void)madvise(std::bit_cast<void*>(start), end - start, MADV_DONTNEED);
        }
    }
    return 0;
}

} // namespace

void keep_memory_small() {
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    mallopt(M_TRIM_THRESHOLD, 256 * 1024);
}

void return_unused_memory() {
    malloc_trim(0);
    dl_iterate_phdr(unmap_pages, nullptr);
}

} // namespace manx
