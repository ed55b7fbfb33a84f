# SPDX-License-Identifier: Apache-2.0
"""The CNI storm: random calls of a runtime, with kills, against whole agents (cni_storm_test.py).

jobs.py and runtime.py make the calls, lab.py has the nodes, facts.py reads what is there, model.py
says what should be.
"""
