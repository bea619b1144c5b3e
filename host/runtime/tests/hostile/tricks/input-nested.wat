;; trick: an input that is nested as deep as JSON may be
;; at: fine
;; expect: <<126 [>><<126 ]>>
;; input: <<126 [>><<126 ]>>
