;; trick: a name with spaces that end in another line
;; at: load
;; expect: the plugin is called `Approved by you`
;; name: Approved by you
