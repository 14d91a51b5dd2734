# SPDX-License-Identifier: Apache-2.0
"""vm/test_jail.py with the built-in machine, on the test host's KVM."""
import os
import sys

os.environ["CAISSON_TEST_HYPERVISOR"] = "kvm"
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vm"))

from test_jail import *  # noqa: E402, F401, F403
