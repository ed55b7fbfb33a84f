// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/run.h"

#include <iostream>

int main(int argc, char** argv) {
    return manx::ctl::run({argv + 1, argv + argc}, std::cin, std::cout, std::cerr);
}
