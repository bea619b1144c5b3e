;; trick: a failure with a megabyte of words and control characters
;; at: invoke
;; expect: \u{1b}[2J
;; limits: memory = "8MiB"

(data (i32.const 4096) "\1b[2J")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 32)))
  (memory.fill (i32.const 65536) (i32.const 7) (i32.const 1048576))
  (memory.copy (i32.const 65536) (i32.const 4096) (i32.const 4))
  (call $fail (i32.const 65536) (i32.const 1048576)))
