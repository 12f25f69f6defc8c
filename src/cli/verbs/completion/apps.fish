# The names of apps where a verb takes them: those that are there, as `pm3 list` tells. Without a supervisor there are
# none, and none is started.
function __fish_pm3_apps
    command pm3 list --mini-list 2>/dev/null | string replace -rf '^\+--- ' ''
end
complete -c pm3 -n "__fish_pm3_using_subcommand @APPS@" -f -a "(__fish_pm3_apps)" -d App
complete -c pm3 -n "__fish_pm3_using_subcommand @FILES@" -a "(__fish_pm3_apps)" -d App
