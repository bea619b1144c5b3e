;; trick: an output that says two things under one name; the host and whoever reads it see the same one
;; at: fine
;; expect: {"paid":2}

(data (i32.const 4096) "{\22paid\22:1,\22paid\22:2}")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $ok (i32.const 4096) (i32.const 19)))
