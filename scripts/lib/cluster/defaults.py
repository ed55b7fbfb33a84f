# SPDX-License-Identifier: Apache-2.0
"""What an API server would hold beside a scenario's own objects: namespaces, service accounts, pods
where the scenario has none, and the EndpointSlices of its services.
"""

from .objects import Objects, labels_of, name_of, namespace_of, spec_of
from .pods import selected

OWN_NAMESPACES = ("kube-system", "demo-a", "demo-b")
MOST_NAMESPACES = 4


def supplement(objects):
    """Objects to be added to a scenario, so that its pods have all that pods have."""
    added = Objects()
    if not objects.kind("Pod"):
        add_pods(objects, added)
    every = Objects(objects.items + added.items)
    for namespace in sorted({namespace_of(o) for o in every.kind("Pod")}):
        if every.get("Namespace", namespace) is None:
            added.items.append(
                {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {
                        "name": namespace,
                        "labels": {"kubernetes.io/metadata.name": namespace},
                    },
                }
            )
    accounts = {
        (namespace_of(o), spec_of(o).get("serviceAccountName", "default"))
        for o in every.kind("Pod")
    }
    for namespace, account in sorted(accounts):
        if every.get("ServiceAccount", account, namespace) is None:
            added.items.append(
                {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": account, "namespace": namespace},
                }
            )
    return added


def add_pods(objects, added):
    """One pod per node and namespace, and a second one in the first; and who may talk to whom."""
    namespaces = [name_of(o) for o in objects.kind("Namespace")][:MOST_NAMESPACES]
    namespaces = namespaces or list(OWN_NAMESPACES)
    for number, node in enumerate(objects.kind("Node"), 1):
        for index, namespace in enumerate(namespaces):
            for copy in ("a", "b") if index == 1 or len(namespaces) == 1 else ("a",):
                added.items.append(pod(namespace, f"web-{number}{copy}", name_of(node)))
    for namespace in namespaces:
        if objects.get("Service", "web", namespace) is None:
            added.items.append(service(namespace))
    if namespaces == list(OWN_NAMESPACES):
        added.items.append(policy("demo-a", "demo-b"))


def pod(namespace, name, node):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "web"}},
        "spec": {
            "nodeName": node,
            "serviceAccountName": "default",
            "containers": [
                {
                    "name": "web",
                    "image": "web",
                    "ports": [
                        {"name": "http", "protocol": "TCP", "containerPort": 8080},
                        {"name": "dns", "protocol": "UDP", "containerPort": 53},
                    ],
                }
            ],
        },
    }


def service(namespace):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "clusterIP": "None",
            "selector": {"app": "web"},
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080, "targetPort": "http"}],
        },
    }


def policy(namespace, caller):
    """Pods of a namespace are reached on their named port, by another namespace's pods."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [
                        {
                            "namespaceSelector": {
                                "matchLabels": {"kubernetes.io/metadata.name": caller}
                            }
                        }
                    ],
                    "ports": [{"protocol": "TCP", "port": "http"}],
                }
            ],
        },
    }


def endpoint_slices(objects, pods):
    """The slices of all services with a selector, by the pods' addresses."""
    by_title = {p.title: p for p in pods}
    slices = []
    for o in objects.kind("Service"):
        wanted = spec_of(o).get("selector")
        if not wanted:
            continue
        members = [
            (m, by_title[f"{namespace_of(m)}/{name_of(m)}"])
            for m in selected(objects, wanted, namespace_of(o))
            if f"{namespace_of(m)}/{name_of(m)}" in by_title
        ]
        for family in (4, 6):
            there = [(m, p) for m, p in members if family in p.addresses]
            if there:
                slices.append(endpoint_slice(o, family, there))
    return slices


def endpoint_slice(service_object, family, members):
    name, namespace = name_of(service_object), namespace_of(service_object)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-ipv{family}",
            "namespace": namespace,
            "labels": {**labels_of(service_object), "kubernetes.io/service-name": name},
        },
        "addressType": f"IPv{family}",
        "endpoints": [
            {
                "addresses": [p.addresses[family]],
                "conditions": {"ready": True},
                "nodeName": p.node.name,
                "targetRef": {"kind": "Pod", "name": p.name, "namespace": p.namespace},
            }
            for _, p in members
        ],
        "ports": [
            {
                "name": port.get("name", ""),
                "protocol": port.get("protocol", "TCP"),
                "port": target_port(port, members[0][1]),
            }
            for port in spec_of(service_object).get("ports") or []
        ],
    }


def target_port(port, pod_behind):
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    return next((p["containerPort"] for p in pod_behind.ports if p.get("name") == target), 0)
