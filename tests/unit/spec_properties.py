#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lists every property that runtime-spec's JSON schema knows: spec_properties.txt.

usage: spec_properties.py RUNTIME_SPEC_CHECKOUT > spec_properties.txt

[] stands for an array's elements, {} for a map's values. Run it when a new runtime-spec comes out; test_spec then
fails for each property that no table in runtime/spec knows.
"""
import json
import os
import sys

schema = os.path.join(sys.argv[1], "schema")
files = {}


def load(name):
    if name not in files:
        with open(os.path.join(schema, name), encoding="utf-8") as f:
            files[name] = json.load(f)
    return files[name]


def resolve(node, base):
    while "$ref" in node:
        name, _, pointer = node["$ref"].partition("#")
        base = name or base
        node = load(base)
        for part in pointer.strip("/").split("/"):
            node = node[part]
    return node, base


def walk(node, base, path, out):
    node, base = resolve(node, base)
    for part in node.get("allOf", []) + node.get("anyOf", []):
        walk(part, base, path, out)
    for name, child in node.get("properties", {}).items():
        sub = f"{path}.{name}" if path else name
        out.add(sub)
        walk(child, base, sub, out)
    if "items" in node:
        walk(node["items"], base, path + "[]", out)
    if isinstance(node.get("additionalProperties"), dict):
        walk(node["additionalProperties"], base, path + "{}", out)


found = set()
walk(load("config-schema.json"), "config-schema.json", "", found)
print("\n".join(sorted(found)))
