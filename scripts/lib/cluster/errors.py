# SPDX-License-Identifier: Apache-2.0
"""The error that ends a run with one line for the person who ran it."""


class ClusterError(Exception):
    """Its text names the thing that is wrong and what was expected."""
