# SPDX-License-Identifier: Apache-2.0
"""What the tests of checkpoints share: a container whose program appends 1, 2, 3 ... to the file /counts."""
import os


def counts(c):
    """The numbers that the container has written so far."""
    try:
        with open(os.path.join(c.rootfs, "counts")) as f:
            return [int(line) for line in f.read().split("\n") if line]
    except FileNotFoundError:
        return []
