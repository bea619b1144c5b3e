;; trick: a failure in `handle`; nothing is delivered to a plugin that subscribes to nothing
;; at: fine
;; expect: {}

(func (export "qchost:agent/guest@0.1.0#handle")
  (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
  unreachable)
