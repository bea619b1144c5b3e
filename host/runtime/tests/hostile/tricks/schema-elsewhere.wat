;; trick: a schema that the host would have to fetch
;; at: load
;; expect: references go only within the schema
;; action: act {"$ref":"http://169.254.169.254/latest/meta-data"}
