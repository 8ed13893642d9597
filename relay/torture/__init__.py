"""The torture: writers, relays and consumers as real processes, and faults at random, until a report is due.

``director`` runs it. ``writer`` is an application that keeps account of its own, ``work`` its handlers;
``setting`` finds or starts the servers, ``scratch`` makes and deletes what is needed on them, ``links`` is
the network between, ``stage`` what faults may touch. ``faults`` are what can go wrong, ``plan`` which of them
come when, by a seed; ``tormentor`` carries that out. ``history`` reads the journals, ``table`` the database,
``vitals`` memory and descriptors; ``report`` is what came of it, ``screen`` shows
it, ``picture`` draws it.
"""
