;; trick: a table of a million elements from the start
;; at: load
;; expect: table

(table $table 1000000 funcref)
