;; trick: a result of a hundred megabytes
;; at: invoke
;; expect: it handed the host more than 33554432 bytes at a time
;; limits: memory = "128MiB"

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 1700)))
  (call $ok (i32.const 4096) (i32.const 104857600)))
