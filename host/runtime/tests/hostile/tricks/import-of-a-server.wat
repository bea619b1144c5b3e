;; trick: the side of HTTP that answers requests
;; at: load
;; expect: the component imports `wasi:http/incoming-handler@0.2.0`, which this host does not have
;; wit: package wasi:http@0.2.0; interface incoming-handler { handle: func(); }

(import "wasi:http/incoming-handler@0.2.0" "handle" (func $handle))
