"""Finds the packages; all else stands in pyproject.toml, whose tables cannot rename a tree that they search."""

from setuptools import find_packages, setup

HOMES = {"noma_semcom_env": "noma_semcom_env", "noma_semcom_agents": "agents", "noma_semcom_benchmarks": "benchmarks"}
SUBPACKAGES = [f"{root}.{name}" for root, home in HOMES.items() for name in find_packages(home)]

setup(packages=[*HOMES, *SUBPACKAGES])
