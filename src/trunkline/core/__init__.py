"""The pure core: snapshots into host states, host states into operations. No I/O."""
