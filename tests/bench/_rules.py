# SPDX-License-Identifier: Apache-2.0
"""One policy of N rules in three languages: Calico's objects, iptables with ipset, nftables.

100 sets of 16 addresses; every second one holds the pods of the benchmark, so that half of the
rules match by address and are decided by the port alone, and no order of tests is the lucky one.
Rules 1 to N-1 take a set and a port of their own; rule N takes all pods and the ports that are
used. The same in both directions, for each pod. Policies hold at most 1,000 rules each.

In iptables and nftables each policy is a chain, each rule one rule (Felix renders two), sets
before ports, established connections by conntrack first: the shape of Felix's rules.
"""

SETS = 100
MEMBERS = 16
IN_POLICY = 1000
FIRST_PORT = 20000
USED_PORTS = (2000, 2099)


def set_members(number, pods):
    own = pods[:MEMBERS] if number % 2 == 0 else []
    return own + [f"10.{100 + number}.0.{i + 1}" for i in range(MEMBERS - len(own))]


def set_of(rule):
    return rule % SETS


def policies_of(rules):
    """Numbers of rules, policy by policy; the last of all is the one that matches."""
    numbers = list(range(1, rules + 1))
    return [numbers[i:i + IN_POLICY] for i in range(0, rules, IN_POLICY)]


def network_sets(pods):
    return [{"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet",
             "metadata": {"name": f"set-{number}", "labels": {"bench-set": f"s{number}"}},
             "spec": {"nets": [address + "/32" for address in set_members(number, pods)]}}
            for number in range(SETS)]


def calico_policies(name, selector, protocol, rules, pods_selector):
    def peer(number):
        if number == rules:
            return pods_selector, f"{USED_PORTS[0]}:{USED_PORTS[1]}"
        return f"bench-set == 's{set_of(number)}'", FIRST_PORT + number

    def rule(number, side):
        match, port = peer(number)
        out = {"action": "Allow", "protocol": protocol, "source": {}, "destination": {}}
        out[side]["selector"] = match
        out["destination"]["ports"] = [port]
        return out

    return [{"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
             "metadata": {"name": f"{name}-{i}"},
             "spec": {"selector": selector, "order": i + 1, "types": ["Ingress", "Egress"],
                      "ingress": [rule(n, "source") for n in numbers],
                      "egress": [rule(n, "destination") for n in numbers]}}
            for i, numbers in enumerate(policies_of(rules))]


def ipset_restore(pods):
    lines = []
    for number in range(SETS):
        lines.append(f"create s{number} hash:ip family inet maxelem 1024")
        lines += [f"add s{number} {address}" for address in set_members(number, pods)]
    lines.append("create pods hash:ip family inet maxelem 1024")
    lines += [f"add pods {address}" for address in pods]
    return "\n".join(lines) + "\n"


def iptables_restore(pods, protocol):
    """pods: (device, number of rules). Egress of one and ingress of the other, each N rules."""
    chains, rules = [], []

    def chain(name):
        chains.append(f":{name} - [0:0]")

    def policies(name, count, side):
        for i, numbers in enumerate(policies_of(count)):
            chain(f"{name}-{i}")
            for number in numbers:
                last = number == count
                match, ports = ("pods", f"{USED_PORTS[0]}:{USED_PORTS[1]}") if last else (
                    f"s{set_of(number)}", FIRST_PORT + number)
                rules.append(f"-A {name}-{i} -p {protocol} -m set --match-set {match} {side} "
                             f"-m multiport --dports {ports} -g accept")
            rules.append(f"-A {name} -j {name}-{i}")
            rules.append(f"-A {name} -m mark --mark 0x10000/0x10000 -j RETURN")

    for name in ("from", "to", "accept"):
        chain(name)
    rules.append("-A accept -j MARK --set-xmark 0x10000/0x10000")
    rules += ["-A FORWARD -j from", "-A FORWARD -j to",
              "-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT"]
    for device, count in pods:
        for direction, option, side in (("from", "-i", "dst"), ("to", "-o", "src")):
            name = f"{direction}-{device}"
            chain(name)
            rules += [f"-A {direction} {option} {device} -g {name}",
                      f"-A {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                      f"-A {name} -m conntrack --ctstate INVALID -j DROP",
                      f"-A {name} -j MARK --set-xmark 0x0/0x10000"]
            policies(name, count, side)
            rules.append(f"-A {name} -j DROP")
    return "\n".join([
        "*raw", "-A PREROUTING -m rpfilter --invert -j DROP", "COMMIT",
        "*nat", "-A POSTROUTING -s 192.0.2.1 -j RETURN", "COMMIT",
        "*filter", ":FORWARD DROP [0:0]", *chains, *rules, "COMMIT", ""])


def nft_ruleset(addresses, pods, protocol):
    lines = ["table ip bench {"]

    def one_set(name, members):
        lines.append(f"set {name} {{ type ipv4_addr; elements = {{ {', '.join(members)} }} }}")

    for number in range(SETS):
        one_set(f"s{number}", set_members(number, addresses))
    one_set("pods", addresses)
    dispatch = {"from": [], "to": []}
    for device, count in pods:
        for direction, side in (("from", "daddr"), ("to", "saddr")):
            name = f"{direction}-{device}"
            dispatch[direction].append(f'"{device}" : goto {name}')
            jumps = []
            for i, numbers in enumerate(policies_of(count)):
                lines.append(f"chain {name}-{i} {{")
                for number in numbers:
                    last = number == count
                    match, ports = ("pods", f"{USED_PORTS[0]}-{USED_PORTS[1]}") if last else (
                        f"s{set_of(number)}", FIRST_PORT + number)
                    lines.append(f"meta l4proto {protocol} ip {side} @{match} {protocol} dport "
                                 f"{ports} meta mark set meta mark | 0x10000 return")
                lines.append("}")
                jumps += [f"jump {name}-{i}", "meta mark & 0x10000 == 0x10000 return"]
            lines += [f"chain {name} {{", "ct state established,related accept",
                      "ct state invalid drop", "meta mark set meta mark & 0xfffeffff", *jumps,
                      "drop", "}"]
    for direction, name in (("from", "iifname"), ("to", "oifname")):
        lines.append(f"chain {direction} {{ {name} vmap {{ {', '.join(dispatch[direction])} }}; }}")
    lines += ["chain forward { type filter hook forward priority 0; policy drop;", "jump from",
              "jump to", "meta mark & 0x10000 == 0x10000 accept", "}",
              "chain rpf { type filter hook prerouting priority -300;",
              "fib saddr . iif oif missing drop", "}",
              "chain nat { type nat hook postrouting priority 100; ip saddr 192.0.2.1 return;", "}",
              "}"]
    return "\n".join(lines) + "\n"
