;; trick: the side of HTTP that answers requests
;; at: load
;; expect: the component imports `wasi:http/incoming-handler@0.2.0`, which this host does not have

(import "wasi:http/incoming-handler@0.2.0" "handle" (func $handle))
