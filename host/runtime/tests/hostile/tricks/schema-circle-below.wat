;; trick: a schema that refers to itself from within
;; at: load
;; expect: goes in a circle; a schema must be finite
;; action: act {"properties":{"a":{"$ref":"#/properties/a"}}}
