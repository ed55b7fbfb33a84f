# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes cluster's network on one machine, built from the cluster's own objects.

objects    reads a scenario folder
selector   Calico's selector language, read independently of the agent
topology   objects -> nodes, routers, links, sessions (pure)
state      what exists on this machine, and how it is taken down
host       namespaces, links and processes
frr, gobgp the routers' software
nodes      a node: namespaces, configuration, agent
pods       pods through the CNI plugin
probe      the program in each namespace that asks and answers
"""
