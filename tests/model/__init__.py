"""The protocol as a step function: every state of small worlds is visited, larger ones are walked at random.

::

    writer ---commits---> jobs (a row each) <--stages, marks, parks, redelivers, rescues-- relay (one leads)
      xid, position,        state, version,                                                  | reads, fences,
      commit or rollback    position, line                                                   | sends, hears
                              ^                                                              v
                              |                                                            broker
                 one commit with the handler's effect                                        | a queue of
                              |                                                              v (job, version)
                          consumer <--------takes; acks after its commit---------------------+

    a leader:    lock and term -> [ read -> fence -> send ... ] -> hear -> mark     (chores between windows)
    in memory:                      plan    fenced    flying       unmarked     keyed by (job, version)
    at its end:  killed, frozen and deposed, its session lost with the database, told to stop

``state.py`` holds all that there is at one moment. ``writer``, ``relay`` (with ``reading`` and ``chores``),
``consumer`` and ``fault`` say what may happen next: a function each, from a state to (step, next state).
``rules.py`` names the rules that they keep; a mutant breaks one. ``invariant.py``, and ``change.py`` where it
happens, say what must never be. ``explore.py`` visits everything, ``walk.py`` much.

A step is what is atomic in the real thing: a statement, a message, a word of the broker. Time is not
modelled: whatever is due some day may happen now. So what holds here holds for every timing.
"""
