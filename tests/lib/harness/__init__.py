# SPDX-License-Identifier: Apache-2.0
"""Modules that the CLI, validation and engine suites share.

machine   a private corner of the machine for the session, and the before/after comparison
rootfs    busybox and Debian root file systems
config    config.json as a dict
runtime   the program under test: run a command, make a container
pty_      receiving a console over a socket
"""
