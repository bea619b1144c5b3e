;; trick: a schema that refers to itself
;; at: load
;; expect: goes in a circle; a schema must be finite
;; action: act {"$ref":"#"}
