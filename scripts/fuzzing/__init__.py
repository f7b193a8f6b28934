"""Every parser of foreign bytes under a fuzzer. `scripts/fuzz` is the way in; tests/fuzz runs seconds of it each time.

targets     the parsers: a name, seeds, and one function of bytes each
seeds       small valid inputs, made by code
mutation    edits of an input that know its format: lengths, digits, checksums, what is packed within
verdict     one input through one target: accepted, refused, or a finding
ledger      what a fuzzing process tells its parent, crashes included: a counter and the input it is at
worker      the process that fuzzes one target by one engine, under limits of memory and time
"""
