//! Who waits for whom: cycles in that graph, and how deep in it each app stands. Pure functions over indices; the
//! graph is given as a list with, for each node, the nodes that it waits for. Indices beyond the list are ignored.

/// A cycle, as the nodes along it, each waiting for the next and the last for the first; None if there is none. A
/// node that waits for itself is a cycle of one.
pub fn cycle(waits_for: &[Vec<usize>]) -> Option<Vec<usize>> {
    walk(waits_for).err()
}

/// For each node the number of nodes on the longest chain that it waits for: 0 starts first and is stopped last.
/// None if there is a cycle.
pub fn depths(waits_for: &[Vec<usize>]) -> Option<Vec<u32>> {
    walk(waits_for).ok()
}

/// Where the search stands with a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    /// On the path that is being walked.
    Open,
    Done,
}

/// A depth-first search with its own stack: a chain may be as long as there are apps.
fn walk(waits_for: &[Vec<usize>]) -> Result<Vec<u32>, Vec<usize>> {
    let mut marks = vec![Mark::New; waits_for.len()];
    let mut depths = vec![0u32; waits_for.len()];
    // The path, with the number of edges already followed at each of its nodes.
    let mut path: Vec<(usize, usize)> = Vec::new();
    for start in 0..waits_for.len() {
        if marks.get(start) == Some(&Mark::New) {
            path.push((start, 0));
        }
        while let Some((node, followed)) = path.last_mut() {
            let node = *node;
            let next = waits_for.get(node).and_then(|edges| edges.get(*followed)).copied();
            *followed += 1;
            let Some(next) = next else {
                set(&mut marks, node, Mark::Done);
                let edges = waits_for.get(node).into_iter().flatten();
                let depth = edges.filter_map(|edge| depths.get(*edge)).map(|below| below + 1).max().unwrap_or(0);
                set(&mut depths, node, depth);
                path.pop();
                continue;
            };
            set(&mut marks, node, Mark::Open);
            if next == node {
                return Err(vec![node]);
            }
            match marks.get(next) {
                Some(Mark::New) => path.push((next, 0)),
                Some(Mark::Open) => {
                    return Err(path.iter().map(|(node, _)| *node).skip_while(|node| *node != next).collect());
                }
                Some(Mark::Done) | None => {}
            }
        }
    }
    Ok(depths)
}

fn set<T>(list: &mut [T], index: usize, value: T) {
    if let Some(slot) = list.get_mut(index) {
        *slot = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_found_and_named_along_the_edges() {
        assert_eq!(cycle(&[]), None);
        assert_eq!(cycle(&[vec![1, 2], vec![2], vec![]]), None);
        assert_eq!(cycle(&[vec![0]]), Some(vec![0]));
        assert_eq!(cycle(&[vec![1], vec![2], vec![1]]), Some(vec![1, 2]));
        assert_eq!(cycle(&[vec![], vec![0, 2], vec![3], vec![0, 1]]), Some(vec![1, 2, 3]));
        assert_eq!(cycle(&[vec![7]]), None, "edges to nowhere are ignored");
    }

    #[test]
    fn a_chain_as_long_as_there_are_apps_fits() {
        let chain: Vec<Vec<usize>> = (0..100_000).map(|node| vec![node + 1]).collect();
        assert_eq!(cycle(&chain), None);
        assert_eq!(depths(&chain).map(|depths| depths[0]), Some(100_000 - 1));
    }

    #[test]
    fn depth_is_the_longest_chain() {
        assert_eq!(depths(&[vec![1, 2], vec![2], vec![], vec![0]]), Some(vec![2, 1, 0, 3]));
        assert_eq!(depths(&[vec![1], vec![0]]), None);
    }
}
