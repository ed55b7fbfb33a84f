// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The map-only object: the loader creates and pins every map from it. */
#include "lib/maps.bpf.h"

char manx_license[] SEC("license") = "GPL";
