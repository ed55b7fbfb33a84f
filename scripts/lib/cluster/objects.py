# SPDX-License-Identifier: Apache-2.0
"""Reads the objects of a scenario folder: every *.yaml, *.yml and *.json file, in order of name."""

import os

import yaml

from .errors import ClusterError

SUFFIXES = (".yaml", ".yml", ".json")


class Objects:
    """The objects of a cluster, in the order in which they were read."""

    def __init__(self, items=()):
        self.items = list(items)

    def kind(self, kind, group=None):
        """All objects of a kind. group tells Calico's NetworkPolicy from Kubernetes' own."""
        return [
            o for o in self.items if o["kind"] == kind and (group is None or group_of(o) == group)
        ]

    def get(self, kind, name, namespace=None):
        for o in self.kind(kind):
            if name_of(o) == name and (namespace is None or namespace_of(o) == namespace):
                return o
        return None


def group_of(o):
    return o["apiVersion"].rpartition("/")[0]


def name_of(o):
    return o["metadata"]["name"]


def namespace_of(o):
    return o["metadata"].get("namespace", "default")


def labels_of(o):
    return o["metadata"].get("labels") or {}


def annotations_of(o):
    return o["metadata"].get("annotations") or {}


def spec_of(o):
    return o.get("spec") or {}


def load(folder):
    """The objects of a folder; ClusterError names the file that cannot be used."""
    if not os.path.isdir(folder):
        raise ClusterError(f"{folder}: no such folder; a scenario is a folder of YAML manifests")
    try:
        names = sorted(n for n in os.listdir(folder) if n.endswith(SUFFIXES))
    except OSError as error:
        raise ClusterError(f"{folder}: {error.strerror}") from error
    if not names:
        raise ClusterError(f"{folder}: no manifest in it (*.yaml, *.yml, *.json)")
    found = Objects()
    for name in names:
        path = os.path.join(folder, name)
        try:
            with open(path, encoding="utf-8") as file:
                documents = list(yaml.safe_load_all(file))
        except (OSError, UnicodeDecodeError) as error:
            raise ClusterError(f"{path}: cannot be read: {error}") from error
        except yaml.YAMLError as error:
            raise ClusterError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
        for number, document in enumerate(documents, 1):
            if document is not None:
                add(found, document, f"{path}, document {number}")
    return found


def add(found, document, where):
    if (
        not isinstance(document, dict)
        or not isinstance(document.get("kind"), str)
        or not isinstance(document.get("apiVersion"), str)
    ):
        raise ClusterError(f"{where}: not an object with apiVersion and kind")
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        for index, item in enumerate(document["items"]):
            add(found, item, f"{where}, items[{index}]")
        return
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise ClusterError(f"{where}: {document['kind']} without metadata.name")
    found.items.append(document)
