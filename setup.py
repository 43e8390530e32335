"""What pyproject.toml cannot say: the package is this folder, so subpackages are found here."""

from setuptools import find_packages, setup

ROOMS = ("core", "headless", "nodes", "training")
FOUND = (name for room in ROOMS for name in find_packages(include=[room, f"{room}.*"]))

setup(packages=["facewright", *(f"facewright.{name}" for name in FOUND)])
