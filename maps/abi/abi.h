/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What every layout header of maps/abi starts from. These headers are included by BPF C and by
 * C++20, and are the only thing that both share. Addresses are in network order (NBO), everything
 * else in host order (HBO). No hidden padding: padding is a field named pad. Structs live in the
 * global namespace with the prefix manx_, since generated skeletons name them unqualified.
 */
#pragma once

#include <linux/types.h>

#ifdef __cplusplus
#define ABI_ASSERT(expr) static_assert(expr, #expr)
#else
#define ABI_ASSERT(expr) _Static_assert(expr, #expr)
#endif
