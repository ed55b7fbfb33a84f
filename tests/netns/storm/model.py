# SPDX-License-Identifier: Apache-2.0
"""What should be there after the calls so far, and how it differs from what is."""

import collections
import dataclasses
import enum
import hashlib
import ipaddress

from . import facts
from .runtime import NETWORK

FIRST_SET = 2  # manx_policy_set: below are allow and deny
GUARD = ("guard", "closed")  # label of the pods that a policy isolates


class State(enum.Enum):
    FRESH = "never asked for"
    READY = "answered"
    OLD = "its pod has a newer sandbox"
    UNSURE = "a call without an answer, or broken from outside"
    GONE = "given back"


@dataclasses.dataclass(eq=False)
class Box:
    """A pod's sandbox."""

    pod: str
    node: str
    container: str
    netns: str  # path
    version: str
    by_tool: bool = False
    state: State = State.FRESH
    result: dict = None

    @property
    def handle(self):
        return f"{NETWORK}.{self.container}"

    @property
    def addresses(self):
        """As the plugin told them, IPv4 first."""
        ips = (self.result or {}).get("ips", [])
        return [str(ipaddress.ip_interface(ip["address"]).ip) for ip in ips]

    def __str__(self):
        return f"{self.pod} {self.container[:16]} ({self.state.value})"


@dataclasses.dataclass(eq=False)
class Pod:
    title: str
    node: str
    guarded: bool
    boxes: list = dataclasses.field(default_factory=list)

    @property
    def interface(self):
        digest = hashlib.sha1(self.title.replace("/", ".").encode()).hexdigest()
        return "cali" + digest[:11]

    def having(self, *states):
        return [b for b in self.boxes if b.state in states]

    @property
    def current(self):
        return next(iter(self.having(State.READY)), None)

    def forget_gone(self, keep=3):
        gone = self.having(State.GONE)[:-keep]
        self.boxes = [b for b in self.boxes if b not in gone]
        return gone


class Model:
    def __init__(self, pods):
        self.pods = pods

    def boxes(self, *states):
        return [b for p in self.pods for b in p.boxes if b.state in states]

    # What calls came to.

    def added(self, box, result, killed=False):
        """killed: the agent was, so that the older sandbox may have lost its addresses early, with
        its device."""
        for other in self.pod_of(box).having(State.READY):
            if other is not box:
                other.state = State.UNSURE if killed else State.OLD
        box.state, box.result = State.READY, result

    def add_unsure(self, box):
        """The ADD may have come to anything, and so may what was there for the pod before."""
        for other in self.pod_of(box).having(State.READY):
            other.state = State.UNSURE
        box.state = State.UNSURE

    def pod_of(self, box):
        return next(p for p in self.pods if p.title == box.pod)

    # What there must be.

    def differences(self, data, nodes):
        """data: facts of the datastore; nodes: name -> facts of the node."""
        found = self.compare_addresses(data)
        for name, node in nodes.items():
            found += [f"{name}: {d}" for d in self.compare_node(name, data, node)]
        return found

    def compare_addresses(self, data):
        known = {b.handle: b for p in self.pods for b in p.boxes}
        held, counted = collections.defaultdict(set), {}
        for address, holders in data.allocations.items():
            if len(holders) != 1:
                holders_text = ", ".join(f"{h} in {b}" for h, b in holders)
                return [f"{address} is held twice: {holders_text}"]
            handle, block = holders[0]
            held[handle].add(address)
            blocks = counted.setdefault(handle, collections.Counter())
            blocks[block] += 1
        found = []
        for handle in {*counted, *data.handles}:
            if counted.get(handle, {}) != data.handles.get(handle, {}):
                found.append(
                    f"handle {handle} counts {data.handles.get(handle)}, blocks have "
                    f"{dict(counted.get(handle, {}))}"
                )
            box = known.get(handle)
            if box is None or box.state in (State.GONE, State.FRESH):
                found.append(f"{sorted(held[handle])} of {box or handle} were not given back")
        for pod in self.pods:
            container, ips = announced(data, pod.title)
            handle = f"{NETWORK}.{container}"
            if not set(ips) <= held[handle]:
                found.append(
                    f"{pod.title} is said to have {ips} for {known.get(handle) or container}, "
                    f"IPAM says {sorted(held[handle])}"
                )
        owners = {}
        for box in self.boxes(State.READY, State.OLD):
            if held[box.handle] != set(box.addresses):
                found.append(f"{box} has {box.addresses}, IPAM says {sorted(held[box.handle])}")
            for address in box.addresses:
                if owners.setdefault(address, box) is not box:
                    found.append(f"{address} belongs to {owners[address]} and to {box}")
        return found

    def compare_node(self, name, data, node):
        pods = {p.interface: p for p in self.pods if p.node == name}
        unsure = {i for i, p in pods.items() if p.having(State.UNSURE)}
        unsure_boxes = {b.handle: b for i in unsure for b in pods[i].having(State.UNSURE)}
        passing = {a for b in unsure_boxes.values() for a in b.addresses}
        passing |= {a for a, held in data.allocations.items() if held[0][0] in unsure_boxes}
        ready = {i: p.current for i, p in pods.items() if p.current}
        found, slots = [], {}
        for interface, box in ready.items():
            found += [f"{box}: {d}" for d in self.compare_box(interface, box, data, node)]
            for address in box.addresses:
                slot = node.endpoints.get(address, {}).get("slot")
                if slot and slots.setdefault(slot, interface) != interface:
                    found.append(f"{box}: slot {slot} is {slots[slot]}'s as well")
        may_be = {*ready, *unsure}
        found += [f"device {i} is left over" for i in node.devices if i not in may_be]
        ours = {a for b in ready.values() for a in b.addresses} | passing
        routes = [a for a in node.routes if a not in ours]
        found += [f"route to {a} by {node.routes[a]} is left over" for a in routes]
        found += [f"table entry of {a} is left over" for a in node.endpoints if a not in ours]
        numbers = {*node.devices.values()}
        numbers |= {r["endpoint"]["ifindex"] for r in node.records.values()}
        for ifindex, hooks in node.attached.items():
            if ifindex not in numbers and not any("uplink" in h for h in hooks):
                found.append(f"programs of device {ifindex} are left pinned: {sorted(hooks)}")
        for interface in node.records:
            pod = pods.get(interface)
            if not pod or not pod.having(State.READY, State.OLD, State.UNSURE):
                found.append(f"record of {interface} ({pod and pod.title}) is left over")
        return found

    def compare_box(self, interface, box, data, node):
        record, ifindex = node.records.get(interface), node.devices.get(interface)
        if ifindex is None:
            yield f"no device {interface}"
            return
        if not record:
            yield "no record"
        else:
            said = record["endpoint"]
            is_right = said["containerID"] == box.container and said["ifindex"] == ifindex
            if record["state"] != "ready" or not is_right:
                yield f"the record says {record['state']} {said}"
        if len(node.attached.get(ifindex, ())) != 2:
            yield f"attached to {ifindex} is {node.attached.get(ifindex)} of {node.attached}"
        wanted = FIRST_SET if self.pod_of(box).guarded else 0
        for address in box.addresses:
            if node.routes.get(address) != interface:
                yield f"the route to {address} goes by {node.routes.get(address)}"
            entry = node.endpoints.get(address)
            if not entry:
                yield f"no table entry of {address}"
            elif entry["ifindex"] != ifindex or not entry["slot"]:
                yield f"the table says of {address}: {entry}"
            elif entry["ingress_set"] < wanted:
                yield f"{address} has policy set {entry['ingress_set']}"
        container, ips = announced(data, box.pod)
        if ips != box.addresses or container != box.container:
            yield f"the pod's annotations are {data.annotations.get(box.pod)}"


def announced(data, pod):
    """Container and addresses in a pod's annotations."""
    said = data.annotations.get(pod, {})
    ips = [i for i in said.get(facts.ANNOTATION + "podIPs", "").split(",") if i]
    container = said.get(facts.ANNOTATION + "containerID")
    return container, [str(ipaddress.ip_interface(i).ip) for i in ips]
