;; trick: a call through a table of a function of another type
;; at: invoke
;; expect: indirect call type mismatch

(table funcref (elem $other))
(func $other (param i64))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call_indirect (result i32) (i32.const 0)))
