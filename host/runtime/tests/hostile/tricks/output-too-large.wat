;; trick: an output that is larger than its manifest allows
;; at: invoke
;; expect: the output has 2048 bytes, more than the 1024 of `limits.output`
;; limits: output = "1KiB"

(data (i32.const 4096) "\22<<2046 x>>\22")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $ok (i32.const 4096) (i32.const 2048)))
