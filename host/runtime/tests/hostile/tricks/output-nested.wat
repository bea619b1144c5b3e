;; trick: an output that is nested a hundred thousand deep
;; at: invoke
;; expect: the output is not usable JSON: recursion limit exceeded

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 4)))
  (memory.fill (i32.const 131072) (i32.const 0x5b) (i32.const 100000))
  (call $ok (i32.const 131072) (i32.const 100000)))
