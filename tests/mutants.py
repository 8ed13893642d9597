"""The guarantees' code, broken on purpose: for each mutant there is a test that must go red.

A mutant is a change of a few characters. A test that stays green guards nothing. Each part of the house has a
list of its own.
"""

from __future__ import annotations

from mutants_consumer import CONSUMER
from mutants_faults import FAULTS
from mutants_field import FIELD
from mutants_relay import RELAY
from mutants_slots import SLOTS
from mutants_virtual import VIRTUAL

MUTANTS = (*RELAY, *VIRTUAL, *CONSUMER, *SLOTS, *FAULTS, *FIELD)
