"""What the demo and the torture have in common: real processes, journals outside our tables, and a judge.

``cast`` runs the processes, ``wiretap`` is a plain broker client that notes what really was on the wire,
``journal`` is how they all write down what they know, ``judge`` holds one against the other, ``proxy`` is a
network that fails on demand.
"""
