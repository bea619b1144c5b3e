;; trick: a schema that the host would have to read from its disk
;; at: load
;; expect: references go only within the schema
;; action: act {"$ref":"file:///etc/passwd"}
