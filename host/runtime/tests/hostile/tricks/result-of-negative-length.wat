;; trick: a result whose text has the length -1
;; at: invoke
;; expect: out of bounds

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $ok (i32.const 4096) (i32.const -1)))
