;; trick: a result that is not UTF-8
;; at: invoke
;; expect: utf-8

(data (i32.const 4096) "\22\ed\a0\80\22")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $ok (i32.const 4096) (i32.const 5)))
