"""The circuit of a dependency: when it opens, who may probe, and how it closes.

`states` has the state machine, `evidence` decides when a process or the fleet suspects
the dependency, `local` keeps the circuit of one process, and `ramp` bounds the calls
after the circuit closed. `shifter.fleet.circuit` shares a circuit between processes.
"""
