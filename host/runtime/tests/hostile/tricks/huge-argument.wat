;; trick: a line for the log of a hundred megabytes
;; at: invoke
;; expect: it handed the host more than 33554432 bytes at a time
;; limits: memory = "128MiB"

(import "qchost:agent/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 1700)))
  (call $write (i32.const 2) (i32.const 4096) (i32.const 104857600) (i32.const 0) (i32.const 0))
  unreachable)
