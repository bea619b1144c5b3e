;; trick: an output that says two things under one name, of which one reader sees the first and another the last
;; at: invoke
;; expect: the output is not usable JSON: "paid" is there twice

(data (i32.const 4096) "{\22paid\22:1,\22paid\22:2}")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $ok (i32.const 4096) (i32.const 19)))
