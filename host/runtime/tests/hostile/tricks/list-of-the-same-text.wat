;; trick: a list with a hundred thousand times the same long text: little memory of its own, gigabytes of the host's
;; at: invoke
;; expect: it handed the host more than 8388608 bytes at a time
;; limits: memory = "8MiB"

(import "qchost:agent/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $at i32)
  (drop (memory.grow (i32.const 64)))
  (local.set $at (i32.const 262144))
  (loop $fill
    (i32.store (local.get $at) (i32.const 65536))
    (i32.store offset=4 (local.get $at) (i32.const 100000))
    (i32.store offset=8 (local.get $at) (i32.const 65536))
    (i32.store offset=12 (local.get $at) (i32.const 100000))
    (local.set $at (i32.add (local.get $at) (i32.const 16)))
    (br_if $fill (i32.lt_u (local.get $at) (i32.const 1862144))))
  (call $write (i32.const 2) (i32.const 4096) (i32.const 0) (i32.const 262144) (i32.const 100000))
  unreachable)
